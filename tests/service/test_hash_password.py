"""`flask hash-password` prints an entry for DASHBOARD_USERS and shows no password."""

import pytest
from werkzeug.security import check_password_hash

from config import parse_users

PASSWORD = "canary-canary-canary"


@pytest.mark.parametrize(("options", "has_full_access"), [((), True), (("--view-only",), False)])
def test_printed_entry_is_a_user_with_this_password(flask, options, has_full_access):
    """The command asks twice without echo and prints only an entry, which the settings accept."""
    result = flask("hash-password", "Ada Smith", *options, input=f"{PASSWORD}\n{PASSWORD}\n")

    assert result.exit_code == 0, result.output
    (user,) = parse_users(result.stdout)
    assert (user.name, user.has_full_access) == ("Ada Smith", has_full_access)
    assert check_password_hash(user.password_hash.get_secret_value(), PASSWORD)
    assert "canary" not in result.output


@pytest.mark.parametrize(
    ("name", "entered", "message"),
    [
        ("a:b", f"{PASSWORD}\n{PASSWORD}\n", "use letters, digits"),
        ("ada", "canary!\ncanary!\n", "8 characters or more"),
        ("ada", f"{PASSWORD}\nanother-password\n", "do not match"),
    ],
)
def test_bad_name_or_password_is_refused(flask, name, entered, message):
    """A name that the settings refuse, a short password, or two different ones, end the command with a message."""
    result = flask("hash-password", name, input=entered)

    assert result.exit_code != 0
    assert message in result.output
    assert result.stdout.count("scrypt") == 0


def test_short_password_is_accepted_with_a_warning(flask):
    """A password with fewer than 16 characters is accepted with a warning."""
    result = flask("hash-password", "ada", input="15-letters-long\n15-letters-long\n")

    assert result.exit_code == 0
    assert "Warning" in result.stderr
