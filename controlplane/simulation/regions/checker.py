"""What must hold of observers, whatever happens: judged from the faults and from what was said, not by their rules.

1. States move only along the arrows of the picture in ``workloadplane.health.domain``.
2. Nobody is ejected unless more than half of the observers that exist have lost him.
3. Nobody is ejected whom the observer could reach all the time: not for slow answers, not for pauses.
4. Who is killed or frozen is ejected in time, by everyone who has a quorum around him.
5. A region that returns climbs every rung of the ramp, each for as long as it must.
6. Once nothing is wrong any more everybody comes to find everybody healthy.
"""

from collections.abc import Mapping
from typing import Final

from controlplane.simulation.regions.schedule import Fault, Schedule
from workloadplane.health.outlook import Change, Outlook, OutlookPolicy, Sighting
from workloadplane.words import counted

KILLED_S: Final = 2.0
FROZEN_S: Final = 3.0
#: So long before an ejection something must have been wrong.
_CAUSE_WITHIN_S: Final = 3.5
#: So long before a loss its observers must have been at work.
_SETTLED_S: Final = 1.0
_CLOCKS: Final = 1.01
_ARROWS: Final = {
    ("healthy", "suspect"),
    ("suspect", "healthy"),
    ("suspect", "ejected"),
    ("suspect", "probation"),
    ("ejected", "probation"),
    ("probation", "probation"),
    ("probation", "ejected"),
    ("probation", "healthy"),
}


class Checker:
    """One run's. ``wrong``: each broken rule, in words; ``owed``: how often somebody had to find a loss."""

    def __init__(self, schedule: Schedule, policy: OutlookPolicy) -> None:
        self.wrong: list[str] = []
        self.owed = 0
        self._schedule = schedule
        self._policy = policy
        self._words: dict[tuple[int, int], tuple[float, Mapping[str, Sighting]]] = {}
        self._states: dict[tuple[int, int], str] = {}
        self._climbed: dict[tuple[int, int], tuple[int, float]] = {}
        self._due = [
            (fault.from_s + within_s, fault)
            for fault in schedule.faults
            for within_s in [KILLED_S if fault.kind == "killed" else FROZEN_S]
            if fault.kind in ("killed", "frozen") and fault.to_s - fault.from_s > within_s
        ]
        self._history: dict[tuple[int, int], list[tuple[float, str]]] = {}

    def on_start(self, region: int) -> None:
        """A process begins, knowing nothing."""
        for other in range(self._schedule.regions):
            self._words.pop((region, other), None)
            self._states[region, other] = "suspect"
            self._climbed.pop((region, other), None)

    def on_word(self, to: int, sender: int, word: Mapping[str, Sighting], asked_s: float) -> None:
        """An answer came to whom it was for."""
        self._words[to, sender] = asked_s, word

    def on_changes(self, now_s: float, observer: int, changes: tuple[Change, ...], after: Outlook) -> None:
        """States have changed."""
        for change in changes:
            subject, transition = int(change.name), change.transition
            key = observer, subject
            before, state = transition.before.state, transition.after.state
            if before != self._states[key] or (before, state) not in _ARROWS:
                self._say(now_s, f"{observer} moves {subject} from {self._states[key]} ({before}) to {state}")
            self._states[key] = state
            self._history.setdefault(key, []).append((now_s, state))
            if state == "ejected":
                self._check_quorum(now_s, observer, subject, after)
                self._check_cause(now_s, observer, subject)
            self._check_ramp(now_s, key, before, state, transition.after.rung)

    def end(self, outlooks: Mapping[int, Outlook]) -> None:
        """It is over: nothing has been wrong for long enough."""
        for due_s, fault in self._due:
            self._check_found(due_s, fault)
        for observer, outlook in outlooks.items():
            for name, subject in outlook.subjects.items():
                if subject.standing.state != "healthy":
                    self._say(
                        self._schedule.healed_s,
                        f"healed, and {observer} never finds {name} healthy: {subject.standing.state}",
                    )

    def _check_quorum(self, now_s: float, observer: int, subject: int, after: Outlook) -> None:
        others = [
            other
            for other in range(self._schedule.regions)
            if other not in (observer, subject) and self._states[observer, other] != "ejected"
        ]
        voices = 0 if after.distrusts_itself else 1
        for other in others:
            asked_s, word = self._words.get((observer, other), (-1e9, {}))
            told = word.get(str(subject))
            fresh = now_s - asked_s <= self._policy.word_s * _CLOCKS
            voices += fresh and told is not None and told.verdict == "lost"
        if 2 * voices <= 1 + len(others):
            self._say(
                now_s, f"{observer} ejects {subject} with {voices} of {counted(1 + len(others), 'observer')}"
            )

    def _check_cause(self, now_s: float, observer: int, subject: int) -> None:
        from_s = now_s - _CAUSE_WITHIN_S
        if not any(
            fault.overlaps(from_s, now_s)
            and (
                (fault.kind in ("killed", "frozen", "cut_off") and fault.region in (observer, subject))
                or (fault.kind == "cut" and {fault.region, fault.other} == {observer, subject})
            )
            for fault in self._schedule.faults
        ):
            self._say(now_s, f"{observer} ejects {subject}, which it could reach all the time")

    def _check_ramp(self, now_s: float, key: tuple[int, int], before: str, state: str, rung: int) -> None:
        ramp = self._policy.ramp
        rung_before, since_s = self._climbed.get(key, (-1, -1e9))
        in_time = now_s - since_s >= ramp.rung_s / _CLOCKS
        if state == "probation":
            self._climbed[key] = rung, now_s
            if rung and not (before == "probation" and rung == rung_before + 1 and in_time):
                self._say(now_s, f"{key[0]} lets {key[1]} climb from rung {rung_before} to {rung} too soon")
        elif (before, state) == ("probation", "healthy") and not (
            rung_before == len(ramp.shares) - 1 and in_time
        ):
            self._say(now_s, f"{key[0]} trusts {key[1]} from rung {rung_before} too soon")

    def _check_found(self, due_s: float, fault: Fault) -> None:
        """Whoever was at work all the time, and had a quorum of such around him, has ejected it by then."""
        schedule, subject, from_s = self._schedule, fault.region, fault.from_s - _SETTLED_S
        sound = [
            region
            for region in range(schedule.regions)
            if region != subject and not self._is_touched(region, from_s, due_s)
        ]
        for observer in sound:
            near = [o for o in sound if o == observer or not self._is_apart(observer, o, from_s, due_s)]
            out = {
                region
                for region in range(schedule.regions)
                if region not in (subject, *near)
                and all(self._was_ejected(o, region, fault.from_s) for o in near)
            }
            in_play = schedule.regions - len(out)
            voices = [
                o
                for o in near
                if self._hears_most(o, out, from_s, due_s)
                # who can't reach the subject meets no refusal, and only hears its silence
                and (fault.kind != "killed" or not self._is_out_of_reach(o, subject, from_s, due_s))
            ]
            has_quorum = observer in voices and 2 * len(voices) > in_play - 1
            self.owed += has_quorum
            if has_quorum and not self._was_ejected(observer, subject, due_s):
                self._say(due_s, f"{observer} has not ejected {subject}, {fault.kind} at {fault.from_s:.2f}")

    def _hears_most(self, observer: int, out: set[int], from_s: float, to_s: float) -> bool:
        """Whether half of its peers that are not out already are heard, or refuse; or there is one alone."""
        peers = [r for r in range(self._schedule.regions) if r != observer and r not in out]
        silent = [
            peer
            for peer in peers
            if self._is_apart(observer, peer, from_s, to_s)
            or self._is_touched(peer, from_s, to_s, but="killed")
        ]
        return len(peers) == 1 or 2 * len(silent) <= len(peers)

    def _is_touched(self, region: int, from_s: float, to_s: float, but: str = "") -> bool:
        return any(
            fault.overlaps(from_s, to_s) and fault.region == region and fault.kind not in ("cut", "slow", but)
            for fault in self._schedule.faults
        )

    def _is_apart(self, one: int, other: int, from_s: float, to_s: float) -> bool:
        return any(
            fault.overlaps(from_s, to_s)
            and fault.kind == "cut"
            and {fault.region, fault.other} == {one, other}
            for fault in self._schedule.faults
        )

    def _is_out_of_reach(self, observer: int, subject: int, from_s: float, to_s: float) -> bool:
        return self._is_apart(observer, subject, from_s, to_s) or any(
            fault.kind == "cut_off" and fault.region == subject and fault.overlaps(from_s, to_s)
            for fault in self._schedule.faults
        )

    def _was_ejected(self, observer: int, subject: int, at_s: float) -> bool:
        states = [
            state for changed_s, state in self._history.get((observer, subject), ()) if changed_s <= at_s
        ]
        return bool(states) and states[-1] == "ejected"

    def _say(self, at_s: float, what: str) -> None:
        self.wrong.append(f"at {at_s:.2f} s: {what}")
