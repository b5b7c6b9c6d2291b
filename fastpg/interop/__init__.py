"""fastpg beside other libraries, one file each."""
