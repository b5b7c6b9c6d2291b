"""What a check found, to be printed."""

from dataclasses import dataclass, field


@dataclass
class Report:
    """What is wrong with an environment or a policy.

    Attributes
    ----------
    name : str
        Of its class.
    errors : list of str
        What is wrong: results would be too, or nothing compiles.
    warnings : list of str
        What is slow or unusual.
    draws : dict
        The numbers of the random draws that each method was seen to make.
    """

    name: str
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    draws: dict[str, list[int]] = field(default_factory=dict)

    def lines(self, verdict: str, *findings: str) -> str:
        """Return the verdict and, a line each, what was found."""
        lines = [f"{self.name}: {verdict}"]
        lines += [f"  {method} draws {numbers}" for method, numbers in self.draws.items()]
        lines += [f"  {text}" for text in findings]
        lines += [f"  error: {text}" for text in self.errors]
        lines += [f"  warning: {text}" for text in self.warnings]
        return "\n".join(lines)

    def note_draws(self, method: str, draws: list[int]) -> None:
        """Note the draws of a call, and warn of a number that is drawn twice."""
        self.draws[method] = sorted({*self.draws.get(method, []), *draws})
        twice = sorted({j for j in draws if draws.count(j) > 1})
        if twice and not any(text.startswith(f"{method} uses") for text in self.warnings):
            self.warnings.append(
                f"{method} uses draw {twice[0]} twice: the same number again, where another j gives another"
            )
