"""Neural networks with hand-derived backpropagation, one file each.

A network is a NamedTuple whose methods work on arrays of a batch, in ordinary Python and in compiled code,
all of one dtype, which is that of θ, and C-contiguous; x alone may have another (an image's booleans), as it
is converted. With B rows in the batch:

- ``n_inputs``, ``n_outputs``, ``n_parameters``; ``initial(rng, gain)``; ``parameters(theta)``, named views
- ``workspace(batch, theta)``: memory for batches of up to that many rows, to be used again and again
- ``forward(theta, x, work)``: the outputs, shape (B, n_outputs), a view into `work`
- ``backward(theta, x, work, d_outputs, gradient)``: after `forward` on the same x, overwrites `gradient` with
  the derivative by θ of Σ_b d_outputs[b] · outputs[b]; it is ``propagate(theta, work, d_outputs)`` for the
  whole batch, followed by ``collect(x, work, d_outputs, first, last, gradient)``, which is the part of rows
  first to last - 1 of it, so that each of several trajectories in a batch can have its own
- ``tangent(theta, x, work, direction)``: after `forward`, the derivative of the outputs along a direction of
  θ, shape (B, n_outputs), a view into `work`
"""
