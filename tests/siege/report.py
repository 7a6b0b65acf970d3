"""The figures of a siege."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from tests.siege.checker import faults_during, refused, reruns
from tests.siege.evidence import Evidence

MAX_PRINTED = 40  # violations to print; others are only counted


def counts(answers: Mapping[str, int]) -> str:
    """Format the numbers of answers."""
    return "callbacks: " + (", ".join(f"{count} {answer}" for answer, count in sorted(answers.items())) or "none")


def show(found: Evidence, violations: Sequence[str], *, all_faults: Sequence[str]) -> None:
    """Print the figures of a siege and its violations."""
    kinds = Counter(violation.partition(":")[0] for violation in violations)
    faults = Counter(fault.name for fault in found.faults)
    during = defaultdict(list)
    for post in refused(found):
        names = " and ".join(sorted({fault.name for fault in faults_during(found, post)})) or "no fault"
        during[f"{post.status or post.reason}, {names}"].append(post.began)
    again = Counter(cause or "no cause" for _, _, cause in reruns(found))
    took = sorted(post.ended - post.began for post in found.posts if post.is_acknowledged)
    print("\nFaults")
    _table({name: faults[name] for name in all_faults})
    print("Callbacks")
    _table(
        {
            "posted": len(found.posts),
            "acknowledged": len(took),
            "acknowledged from the spool": sum(post.is_acknowledged and post.id is None for post in found.posts),
            "refused": len(found.posts) - len(took),
            "lost": kinds["lost"],
            "events": len(found.events),
            "events found by reconcile": sum(event.source == "reconcile" for event in found.events.values()),
            "reported twice": kinds["twice"],
            "handler runs owed": len(found.dispatches),
        }
    )
    if took:
        print(
            f"    answered within (s)  p50 {took[len(took) // 2]:.3f}, p99 {took[len(took) * 99 // 100]:.1f}, "
            f"longest {took[-1]:.1f}"
        )
    print("Refused, by answer and fault")
    _table({f"{what}, from {min(times):.1f} to {max(times):.1f}": len(times) for what, times in during.items()})
    print("Handlers run again, by cause")
    _table(again)
    print(f"Violations: {len(violations)}")
    _table(kinds)
    for violation in violations[:MAX_PRINTED]:
        print(f"    {violation[:400]}")


def _table(rows: Mapping[str, int]) -> None:
    for name, count in rows.items():
        print(f"    {count:7,}  {name}")
