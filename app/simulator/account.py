"""One OneSpan account: its people, its packages, and the planned actions on each package."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TypeVar
from uuid import NAMESPACE_OID, uuid5

from app.simulator import drafts, features, people, stories
from app.simulator.actions import SYSTEM_VERBS, perform
from app.simulator.anomalies import NO_ANOMALIES, Rates
from app.simulator.features import NO_FEATURES
from app.simulator.list_view import ListView
from app.simulator.packages import Action, Event, ImpossibleAction, Package
from app.simulator.people import Person
from app.simulator.quirks import DEFAULT_QUIRKS, Quirks

AT_ONCE = 8  # packages that are in progress at the same time
SENDERS = 2  # senders in addition to the account's owner
EARLIEST = datetime.min.replace(tzinfo=UTC)
# The `sessionUser` of events that no person causes, by the value of the quirk `system_user`.
SYSTEM_USERS = {"system": "onespan-system", "null": None}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Registration:
    """The account's only registration for callbacks: one URL, one key, one list of events."""

    url: str
    key: str
    events: frozenset[str]


class Account:
    """A simulated account that plays the stories of its packages, one action per step.

    REST callers may change packages between two steps. The same seed produces the same packages, stories and order;
    callers give the times. Any number of threads may use the account. Packages are immutable and are replaced whole.
    """

    def __init__(
        self,
        seed: int,
        *,
        packages: int | None,
        senders: int = SENDERS,
        at_once: int = AT_ONCE,
        quirks: Quirks = DEFAULT_QUIRKS,
        anomalies: Rates = NO_ANOMALIES,
        features: Rates = NO_FEATURES,
    ) -> None:
        """`packages` is the number of packages to create, or None for no limit.

        `at_once` packages are in progress at the same time. `senders` is the number of senders besides the owner.
        `features` are the shares of packages with each feature, such as a group that signs.
        """
        self.quirks = quirks
        self.registration: Registration | None = None
        self.connectors: dict[str, Registration] = {}  # the registration of each connector, by its origin
        self.reminders: list[tuple[str, str | None]] = []  # package and role of each requested reminder
        self.rest_ids = Random(f"{seed}:rest")  # for the ids of what REST callers create
        self._rng = Random(seed)
        self.people = tuple(people.sender(self._rng) for _ in range(senders + 1))
        self._anomalies, self._features = anomalies, features
        self._packages: dict[str, Package] = {}
        self._plans: dict[str, deque[Action]] = {}
        self._changed_by_hand: set[str] = set()  # packages changed over REST: their plan may have become impossible
        self._to_create = packages
        self._at_once = at_once
        self._lag = timedelta(seconds=quirks.package_lag)
        self._list_lag = max(self._lag, timedelta(seconds=quirks.list_lag))
        self._list_view = ListView(lag=self._list_lag)
        self._versions: dict[str, deque[tuple[datetime, Package]]] = {}  # only with a lag: when each version began
        self._lock = threading.RLock()

    def load(self, packages: Iterable[Package]) -> "Account":
        """Add these packages to the account, without planned actions, and return the account."""
        with self._lock:
            self._packages |= {package.id: package for package in packages}
            self._list_view = ListView(self._packages.values(), lag=self._list_lag)
            if self._lag:
                self._versions |= {package.id: deque([(EARLIEST, package)]) for package in self._packages.values()}
        return self

    @property
    def owner(self) -> Person:
        """The person who owns the account."""
        return self.people[0]

    def put_person(self, person: Person) -> Person:
        """Add a sender, or replace the sender with the same id, and return the sender."""
        with self._lock:
            known = [other.id for other in self.people]
            at = known.index(person.id) if person.id in known else len(known)
            self.people = (*self.people[:at], person, *self.people[at + 1 :])
        return person

    def remove_person(self, person: Person) -> None:
        """Delete a sender, whose packages remain."""
        with self._lock:
            self.people = tuple(other for other in self.people if other.id != person.id)

    def registration_for(self, package_id: str) -> Registration | None:
        """Return the registration of the connector that a package names in `data.origin`, if any."""
        package = self._packages.get(package_id)
        origin = package.data.get("origin") if package else None
        return self.connectors.get(origin) if isinstance(origin, str) else None

    @property
    def is_over(self) -> bool:
        """Whether the stories of all packages have ended."""
        return self._to_create == 0 and not self._plans

    @property
    def ended_count(self) -> int:
        """The number of packages without further planned actions."""
        return len(self._packages) - len(self._plans)

    def packages(self) -> list[Package]:
        """Return all packages, including deleted packages, in the order of creation."""
        with self._lock:
            return list(self._packages.values())

    def package(self, package_id: str) -> Package | None:
        """Return a package in its present state, or None if the package never existed."""
        return self._packages.get(package_id)

    def shown_package(self, package_id: str, *, now: datetime) -> Package | None:
        """Return a package as the API shows it, which is its state of `package_lag` seconds ago."""
        if not self._lag:
            return self.package(package_id)
        with self._lock:
            versions = self._versions.get(package_id, deque())
            while len(versions) > 1 and versions[1][0] <= now - self._lag:
                versions.popleft()
            return versions[0][1] if versions and versions[0][0] <= now - self._lag else None

    def read_list(self, query: Callable[[ListView], T], *, now: datetime) -> T:
        """Return the answer to a query on the list of packages, which may lag behind the packages themselves."""
        with self._lock:
            self._list_view.publish_due(now)
            return query(self._list_view)

    def step(self, now: datetime) -> list[Event]:
        """Perform the next planned action of a story and return its events, possibly none."""
        with self._lock:
            if self.is_over:
                return []
            package_id = self._next_package(now)
            plan = self._plans[package_id]
            try:
                return self._perform(package_id, plan.popleft(), now)
            except ImpossibleAction:
                if package_id not in self._changed_by_hand:
                    raise
                plan.clear()  # the plan is impossible because a REST caller changed the package
                return []
            finally:
                if not plan:
                    del self._plans[package_id]

    def act(self, package_id: str, *actions: Action, now: datetime) -> list[Event]:
        """Perform actions that are not part of the package's story, all or none, and return their events.

        Raises `ImpossibleAction` if the package does not allow an action. The package's story continues if possible.
        """
        return self.act_on(package_id, lambda _: actions, now=now)

    def act_on(self, package_id: str, plan: Callable[[Package], Iterable[Action]], *, now: datetime) -> list[Event]:
        """Perform the actions that `plan` returns for the present package, as `act` does."""
        with self._lock:
            self._changed_by_hand.add(package_id)
            return self._perform_all(self._packages[package_id], plan(self._packages[package_id]), now)

    def create(self, package: Package, *actions: Action, now: datetime) -> list[Event]:
        """Add a new package, perform these actions on it, and return the events. Raises `ImpossibleAction`."""
        with self._lock:
            return self._perform_all(package, actions, now)

    def _perform(self, package_id: str, action: Action, now: datetime) -> list[Event]:
        return self._perform_all(self._packages[package_id], [action], now)

    def _perform_all(self, package: Package, actions: Iterable[Action], now: datetime) -> list[Event]:
        events: list[Event] = []
        for action in actions:
            before = package
            package, caused = perform(before, action, now=now)
            if self.quirks.trash_updated == "stays" and before.trashed != package.trashed:
                package = replace(package, updated=before.updated, touched=package.updated)
            events += [self._with_session_user(event, action, before) for event in caused]
        self._packages[package.id] = package
        self._list_view.put(package, now=now)
        if self._lag:
            self._versions.setdefault(package.id, deque()).append((now, package))
        return events

    def _with_session_user(self, event: Event, action: Action, package: Package) -> Event:
        """Return the event with the `sessionUser` that the quirks prescribe."""
        if action.verb in SYSTEM_VERBS and self.quirks.system_user in SYSTEM_USERS:
            return replace(event, session_user=SYSTEM_USERS[self.quirks.system_user])
        seats = package.roles[action.role : action.role + 1]
        members = {member.id for seat in seats if seat.group for member in seat.group.members} - {package.sender.id}
        if event.session_user in members:
            event = replace(event, session_user=self._group_user(package, action))
        if self.quirks.session_user == "role":
            roles = {role.person.id: role.id for role in package.roles if role.person and not role.is_sender}
            return replace(event, session_user=roles.get(event.session_user or "", event.session_user))
        return event

    def _group_user(self, package: Package, action: Action) -> str:
        """Return the `sessionUser` of an action for a group: the member's, the group's, or one that is in no list."""
        if self.quirks.group_user == "role":
            return package.person(action.role).id
        member = package.actor(action).id
        return member if self.quirks.group_user == "member" else str(uuid5(NAMESPACE_OID, member))

    def _next_package(self, now: datetime) -> str:
        """Return the id of a new package, or of a random package in progress if the limits allow no new package."""
        if self._to_create == 0 or len(self._plans) >= self._at_once:
            return self._rng.choice(list(self._plans))
        package = drafts.draft(self._rng, self.people, now=now, rates=self._anomalies)
        package = features.with_features(self._rng, package, rates=self._features)
        self._packages[package.id] = package
        story = stories.story(self._rng, package, rates=self._anomalies, features=self._features, quirks=self.quirks)
        self._plans[package.id] = deque(story)
        if self._to_create is not None:
            self._to_create -= 1
        return package.id
