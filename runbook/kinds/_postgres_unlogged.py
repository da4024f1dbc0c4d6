"""Unlogged tables: their contents never reach a standby, and a promotion leaves them empty."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from runbook.errors import Errored
from runbook.kinds._compare import chosen
from runbook.kinds._shared import tail
from runbook.kinds.needs_common import Seen, need
from runbook.kinds.postgres_common import directory, may_as_root, others, standing
from runbook.kinds.sql_common import answer, server
from runbook.model.database import Database
from runbook.model.need import Need, coming, in_database
from runbook.model.ports import DatabaseReads, Reads

_TABLES = """\
SELECT n.nspname || '.' || c.relname, {what}
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'u' ORDER BY 1"""
_WITH_CONTENTS = """\
cd {directory} || exit
while read -r file; do
  [ ! -s "$file" ] || echo "$file"
done <<'END'
{files}
END
"""


def left_behind(reads: Reads, standby: DatabaseReads, old: Database) -> list[str]:
    """Unlogged tables that have contents on a server that is stopped, in the database of the
    connection: a standby has the same files, and these are empty. Raises Errored, Refused."""
    files = {str(file): str(name) for name, file in answer(
        standby, _TABLES.format(what="pg_relation_filepath(c.oid)")).rows}
    if not files:
        return []
    done = reads.on(old.host).query(
        _WITH_CONTENTS.format(directory=shlex.quote(directory(old)), files="\n".join(files)),
        run_as=None if may_as_root(reads, old) else old.run_as,
    )
    if done.exit_code != 0:
        raise Errored(f"{old.host}: the files of {old.name} cannot be read ({tail(done.stderr)})")
    return [files[file] for file in done.stdout.split()]


def given_up(tables: Sequence[str], lose: Sequence[str]) -> list[str]:
    """Those that are not accepted as lost."""
    return chosen(tables, (), lose)


def none_is_lost(reads: Reads, new: str, old: str, lose: Sequence[str]) -> Need:
    """Whether the old side has contents that a promotion of the new one loses."""

    def look() -> Seen:
        postgres = server(reads, old, "postgres")
        if standing(reads, postgres).role != "primary":
            return Seen(None, f"{old} is no primary now")
        found = answer(postgres, _TABLES.format(what="pg_relation_size(c.oid)")).rows
        lost = given_up([str(name) for name, size in found if size], lose)
        unseen = others(postgres)
        rest = f"; nobody looked into the databases {', '.join(unseen)}" if unseen else ""
        if lost:
            return Seen(False, f"{', '.join(lost)} would be empty on {new}{rest}")
        return Seen(None if unseen else True, f"none has contents{rest}")

    return need(
        f"{new} loses no contents of unlogged tables", look,
        made_by=(in_database(old), coming(old)), hint=HINT,
    )


HINT = "`lose` of postgres.promote gives them up by name; ALTER TABLE … SET LOGGED keeps them"
