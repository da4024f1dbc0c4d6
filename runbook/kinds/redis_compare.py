"""The kind ``redis.compare``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from pydantic import Field

from runbook.kinds._compare import ENOUGH, SHOWN, Found
from runbook.kinds._comparison import ComparisonKind, Standing
from runbook.kinds.redis_common import both, demand_of, frozen, info, lacks, strays
from runbook.kinds.sql_common import DatabaseName, answer, server
from runbook.model.database import Engine
from runbook.model.observation import Observation
from runbook.model.ports import DatabaseReads, Reads

BIG = 1_000_000
"""Elements of a key above which only their number is compared: reading it would hold up all
clients of the server for seconds."""

# Keys go in and out in hexadecimal: they may be any bytes. Parts of SHA-1 values are added up,
# so that the order in which a set or a hash is stored does not count.
_COMMON = f"""\
local function hex(s) return (string.gsub(s, '.', function(c)
  return string.format('%02x', string.byte(c)) end)) end
local function unhex(s) return (string.gsub(s, '..', function(c)
  return string.char(tonumber(c, 16)) end)) end
local lane = 281474976710656
local function new() return {{0, 0, 0}} end
local function add(sum, text)
  local h = redis.sha1hex(text)
  for i = 0, 2 do
    sum[i + 1] = (sum[i + 1] + tonumber(string.sub(h, i * 12 + 1, i * 12 + 12), 16)) % lane
  end
end
local function told(sum) return string.format('%.0f.%.0f.%.0f', sum[1], sum[2], sum[3]) end
local function field(flat, name)
  for i = 1, #flat, 2 do if flat[i] == name then return flat[i + 1] end end
end
local function text(v) return #v .. ':' .. v end
local count = {{list = 'LLEN', set = 'SCARD', zset = 'ZCARD', hash = 'HLEN', stream = 'XLEN'}}
local function digest(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then return '' end
  local expires = redis.call('PEXPIRETIME', key)
  local head = kind .. ' ' .. string.format('%.0f', expires) .. ' '
  if kind == 'string' then return head .. redis.sha1hex(redis.call('GET', key)) end
  local size = count[kind] and redis.call(count[kind], key)
  -- A type of a module. The last ten bytes are a version and a checksum.
  if not size then
    return head .. redis.sha1hex(string.sub(redis.call('DUMP', key), 1, -11))
  end
  head = head .. string.format('%.0f', size) .. ' '
  local sum = new()
  local groups = {{}}
  if kind == 'stream' then
    head = head .. field(redis.call('XINFO', 'STREAM', key), 'last-generated-id') .. ' '
    for _, group in ipairs(redis.call('XINFO', 'GROUPS', key)) do
      local name, pending = field(group, 'name'), field(group, 'pending')
      groups[name] = pending
      size = size + pending
      add(sum, 'group ' .. text(name) .. ' ' .. field(group, 'last-delivered-id') .. ' ' .. pending)
    end
  end
  if size > {BIG} then return head .. 'by number only ' .. told(sum) end
  if kind == 'list' then
    for i, v in ipairs(redis.call('LRANGE', key, 0, -1)) do add(sum, i .. ':' .. v) end
  elseif kind == 'set' then
    for _, v in ipairs(redis.call('SMEMBERS', key)) do add(sum, v) end
  elseif kind == 'stream' then
    for _, e in ipairs(redis.call('XRANGE', key, '-', '+')) do
      local entry = e[1]
      for _, v in ipairs(e[2]) do entry = entry .. ':' .. text(v) end
      add(sum, entry)
    end
    for name, pending in pairs(groups) do
      if pending > 0 then
        for _, e in ipairs(redis.call('XPENDING', key, name, '-', '+', pending)) do
          add(sum, 'pending ' .. text(name) .. ' ' .. e[1] .. ' ' .. e[2])
        end
      end
    end
  else
    local all = kind == 'hash' and redis.call('HGETALL', key)
      or redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for i = 1, #all, 2 do add(sum, text(all[i]) .. all[i + 1]) end
  end
  return head .. told(sum)
end
local out = {{}}
"""
_SCAN = _COMMON + """\
local page = redis.call('SCAN', ARGV[1], 'COUNT', ARGV[2])
out[1] = page[1]
for _, key in ipairs(page[2]) do
  out[#out + 1] = hex(key)
  out[#out + 1] = ARGV[3] == '1' and digest(key) or ''
end
return out"""
_LOOK = _COMMON + """\
for i, key in ipairs(ARGV) do out[i] = digest(unhex(key)) end
return out"""


def _eval(redis: DatabaseReads, script: str, *words: str) -> list[str]:
    quoted = "'" + script.replace("'", "'\"'\"'") + "'"
    told = answer(redis, f"EVAL_RO {quoted} 0 {' '.join(words)}", timeout=60.0)
    return [str(row[0]) for row in told.rows]


class KeyWalk:
    """The keys of one server, page by page, held against those of another one; then whether the
    other has more. ``found.table`` is which of the two it is at, ``found.after`` the cursor, and
    ``found.ended`` that it has been there to the last page: a look may end at any page."""

    tables = ("database",)

    def __init__(
        self, left: DatabaseReads, right: DatabaseReads, found: Found, *, exclude: Sequence[str],
        size: int, one_sided: bool = False,
    ) -> None:
        self._one_sided = one_sided
        self._left, self._right = left, right
        self.found = found
        self._exclude = exclude
        self._size = size

    def close(self) -> None:
        """Nothing is held."""

    @property
    def left(self) -> int:
        return 1

    def pieces(self) -> Iterator[int]:
        found = self.found
        found.table = found.table or "keys"
        if found.table == "keys":
            yield from self._pages(self._left, self._compare, digests=True)
            if self._one_sided or not found.ended:
                return
            sizes = [answer(one, "DBSIZE").value for one in (self._left, self._right)]
            if sizes[0] == sizes[1]:
                return
            found.table, found.after, found.ended = "more", None, False
        yield from self._pages(self._right, self._only_there, digests=False)

    def _pages(self, redis: DatabaseReads, look: Any, *, digests: bool) -> Iterator[int]:
        found = self.found
        while not found.ended and (self._one_sided or found.differing < ENOUGH):
            cursor = found.after[0] if found.after else "0"
            page = _eval(redis, _SCAN, cursor, str(self._size), "1" if digests else "0")
            told = dict(zip(page[1::2], page[2::2], strict=True))
            keys = {key: digest for key, digest in told.items() if not self._left_out(key)}
            if keys:
                look(keys)
            found.pieces += 1
            found.after, found.ended = [page[0]], page[0] == "0"
            yield len(keys)

    def _compare(self, keys: dict[str, str]) -> None:
        self.found.rows += len(keys)
        other = dict(zip(keys, _eval(self._right, _LOOK, *keys), strict=True))
        odd = [key for key, digest in keys.items() if other[key] != digest]
        if odd:
            # A key may have expired between the two answers: asked once more.
            one, two = (_eval(side, _LOOK, *odd) for side in (self._left, self._right))
            self._differs(odd, one, two)

    def _only_there(self, keys: dict[str, str]) -> None:
        names = list(keys)
        missing = [n for n, d in zip(names, _eval(self._left, _LOOK, *names), strict=True) if not d]
        if missing:
            self._differs(
                missing, *(_eval(side, _LOOK, *missing) for side in (self._left, self._right))
            )

    def _differs(self, keys: Sequence[str], one: Sequence[str], two: Sequence[str]) -> None:
        sides = list(zip(keys, one, two, strict=True))
        lacking = [key for key, here, there in sides if here and not there]
        extra = [key for key, here, there in sides if there and not here]
        changed = [key for key, here, there in sides if here and there and here != there]
        if not (lacking or extra or changed):
            return
        self.found.differing += 1
        self.found.differences.append({
            "table": "keys", "keys": f"a page of {len(keys)}", "lacking": len(lacking),
            "extra": len(extra), "changed": len(changed),
            **{f"{what}_keys": [_shown(key) for key in some[:SHOWN]] for what, some in
               (("lacking", lacking), ("extra", extra), ("changed", changed)) if some},
        })

    def _left_out(self, key: str) -> bool:
        return any(fnmatchcase(_shown(key), pattern) for pattern in self._exclude)


def _shown(key: str) -> str:
    return bytes.fromhex(key).decode(errors="backslashreplace")


class RedisCompare(ComparisonKind):
    """Hold every key of a replica against its primary's: type, value and moment of expiry.

    For inside the freeze, before the promotion: the primary refuses writes and both are at the
    same offset, at the beginning and at the end. Values are digested by a script on each server
    that cannot write (`EVAL_RO`: Redis 7 and newer, Valkey); no value leaves it. Of a key with more
    than a million elements only their number is compared. Only the database of the connection is.

    Of a stream its entries are, the last id it has given, its groups, how far each has read, and
    which entry is pending with whom; not how often and when one was delivered, and which consumers
    have nothing pending, as Redis itself does not replicate these exactly. A type that a module
    brings is compared as `DUMP` gives it. Where a module gives the same value in two ways, it is
    told as different: exclude such keys, and compare them otherwise.

    It never writes. It goes on where it was after a restart, and `max_rate` slows it down.
    """

    name: ClassVar[str] = "redis.compare"
    engine: ClassVar[Engine] = "redis"
    unit: ClassVar[str] = "database"
    example: ClassVar[str] = """\
- id: same
  kind: redis.compare
  with: {primary: east-redis, replica: west-redis, exclude: ["session:*"]}
"""

    primary: DatabaseName = Field(description="The server that is followed; frozen by now.")
    replica: DatabaseName = Field(description="The server that follows it.")
    chunk: int = Field(default=500, ge=1, description="Keys that are compared at once.")

    def sides(self) -> tuple[str, str]:
        return (self.primary, self.replica)

    def observe(self, reads: Reads) -> Observation:
        for name in self.sides():
            server(reads, name, "redis")
        return super().observe(reads)

    def walk(self, left: DatabaseReads, right: DatabaseReads, found: Found) -> KeyWalk:
        return KeyWalk(left, right, found, exclude=self.exclude, size=self.chunk)

    def standing(self, left: DatabaseReads, right: DatabaseReads) -> Standing:
        # In this order: what a frozen primary has is all that it will have.
        refuses = frozen(demand_of(left))
        first, second = both(left, right)
        if (first["role"], second["role"]) != ("primary", "replica"):
            return Standing(why=f"{self.primary} is {first['role']}, {self.replica} is "
                            f"{second['role']}: a replica is compared with its primary")
        if not refuses:
            return Standing(why=f"{self.primary} takes writes: it has to be frozen first, with "
                            "redis.freeze")
        if second["offset"] < 0:
            return Standing(why=f"{self.replica} is not connected to its primary", wait=True)
        why = strays(first, second, self.primary)
        if why:
            return Standing(why=f"{self.replica} is no replica of {self.primary}: {why}")
        behind = lacks(first, second)
        if behind:
            return Standing(why=f"{self.replica} lacks {behind} bytes", wait=True)
        # Not the offset itself: pings and expiries move it, and are no writes.
        return Standing(at={"primary": _run(left), "replica": _run(right)})


def _run(redis: DatabaseReads) -> str:
    """Identity of a server's life: a cursor of its keys is of no use in the next."""
    return info(redis, "server")["run_id"][:12]
