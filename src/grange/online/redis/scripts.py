"""What runs inside the server, so that it is one step for all who look: Lua, sent by its digest.

Each may run twice with the same arguments, as it does when an answer got lost, and leaves what it leaves once.

Pairs of a name and a value come as texts of `length of name, length of value, name, value`, lengths in four bytes,
big end first; a value of the length `GONE` is none and deletes. So any number of them is one argument of a command.
"""

from __future__ import annotations

import hashlib
from typing import Final

from grange.online.redis.resp import Call, packed

GONE: Final = 0xFFFFFFFF

_PAIRS = """
local function pairs_of(from)
  local names, values, n = {}, {}, 0
  for i = from, #ARGV do
    local text, at = ARGV[i], 1
    while at <= #text do
      local long, size
      long, size, at = struct.unpack('>I4I4', text, at)
      n = n + 1
      names[n] = string.sub(text, at, at + long - 1)
      at = at + long
      if size ~= 4294967295 then
        values[n] = string.sub(text, at, at + size - 1)
        at = at + size
      end
    end
  end
  return names, values, n
end
"""

WRITE = (
    _PAIRS
    + """
-- integers of 64 bits in two halves, the upper one signed: a number here is exact only up to 53 bits
local byte, unpack_ = string.byte, struct.unpack
local function integer(s, at)
  local b = byte(s, at)
  if not b then error('CORRUPT a stored row ends too early') end
  if b < 128 then return 0, b, at + 1 end
  if b >= 224 then return -1, b + 4294967040, at + 1 end
  if b == 207 then local high, low, to = unpack_('>I4I4', s, at + 1) return high, low, to end
  if b == 211 then local high, low, to = unpack_('>i4I4', s, at + 1) return high, low, to end
  if b == 192 then return nil, nil, at + 1 end
  if b == 204 then return 0, byte(s, at + 1), at + 2 end
  if b == 205 then local low, to = unpack_('>I2', s, at + 1) return 0, low, to end
  if b == 206 then local low, to = unpack_('>I4', s, at + 1) return 0, low, to end
  local low, to
  if b == 208 then low, to = unpack_('>i1', s, at + 1)
  elseif b == 209 then low, to = unpack_('>i2', s, at + 1)
  elseif b == 210 then low, to = unpack_('>i4', s, at + 1)
  else error('CORRUPT a stored row has no times') end
  if low < 0 then return -1, low + 4294967296, to end
  return 0, low, to
end
local function age(row)
  local b = byte(row, 1)
  local at = 2
  if b == 220 then at = 4 elseif b == 221 then at = 6
  elseif not b or b < 144 or b > 159 then error('CORRUPT a stored row is no array') end
  local _, eh, el, ch, cl
  _, _, at = integer(row, at)
  eh, el, at = integer(row, at)
  ch, cl, at = integer(row, at)
  if not eh then error('CORRUPT a stored row has no event time') end
  return eh, el, ch, cl
end
local function older(one, other)
  local eh, el, ch, cl = age(one)
  local oeh, oel, och, ocl = age(other)
  if eh ~= oeh then return eh < oeh end
  if el ~= oel then return el < oel end
  if not och then return false end
  if not ch then return true end
  if ch ~= och then return ch < och end
  return cl < ocl
end

local rows, expire = KEYS[1], tonumber(ARGV[1])
if redis.call('HEXISTS', rows, 'b') == 0 then return -1 end
local names, values, n = pairs_of(2)
local held = {}
for from = 1, n, 1000 do
  local found = redis.call('HMGET', rows, unpack(names, from, math.min(from + 999, n)))
  for i = 1, #found do held[names[from + i - 1]] = found[i] or nil end
end
local taken, size, changed, order = 0, 0, {}, {}
for i = 1, n do
  local name, value = names[i], values[i]
  local old = changed[name] or held[name]
  if not (old and older(value, old)) then
    taken = taken + 1
    size = size + #value - (old and #old or 1 - #name)
    if not changed[name] then order[#order + 1] = name end
    changed[name] = value
  end
end
for from = 1, #order, 1000 do
  local last = math.min(from + 999, #order)
  local set = {}
  for i = from, last do
    set[#set + 1] = order[i]
    set[#set + 1] = changed[order[i]]
  end
  redis.call('HSET', rows, unpack(set))
  if expire > 0 then
    redis.call('HPEXPIRE', rows, expire, 'FIELDS', last - from + 1, unpack(order, from, last))
  end
end
if size ~= 0 then redis.call('HINCRBY', rows, 'b', size) end
return taken
"""
)
"""Merge rows (ONL-2). KEYS: the rows of a set. ARGV: milliseconds until they expire or 0; pairs.

Returns how many were taken, or -1 when the set is not there. Nothing is written before all that is stored was read.
"""

COMMIT = (
    _PAIRS
    + """
local cells, expected, mine = KEYS[1], ARGV[1], ARGV[2]
local version = redis.call('HGET', cells, 'v')
if not version then return -1 end
for at = 1, #version, #mine do
  if string.sub(version, at, at + #mine - 1) == mine then return 1 end
end
if version ~= expected then return 0 end
local names, values, n = pairs_of(3)
local size = 0
for i = 1, n do
  local name, value = names[i], values[i]
  local old = redis.call('HSTRLEN', cells, name)
  if value then
    size = size + #value - old
    if redis.call('HSET', cells, name, value) == 1 then size = size + #name - 1 end
  elseif redis.call('HDEL', cells, name) == 1 then
    size = size - old - #name + 1
  end
end
redis.call('HSET', cells, 'v', string.sub(mine .. version, 1, 16 * #mine))
redis.call('HINCRBY', cells, 'b', size)
return 1
"""
)
"""Change cells if nobody has since they were read. KEYS: the cells of a set. ARGV: the version read, a token that is
new; pairs.

The version is the tokens of the last 16 commits. Returns 1 when it is done, by this call or by an earlier one with
the same token; 0 when somebody else came first; -1 when the set is not there.
"""

LEASE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ARGV[3] == '0' and not (score and tonumber(score) >= 0) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
return 1
"""
"""Keep a set that is being built from being swept. KEYS: sets aside. ARGV: the set, milliseconds, 1 for a new one.

Returns 0 when it was swept already.
"""

SWEEP = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)
for i = 1, #found do redis.call('ZADD', KEYS[1], -1, found[i]) end
return found
"""
"""The sets aside that nobody builds any more; from now on nobody can. KEYS: sets aside."""

DISCARD = """
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], -1, ARGV[1])
return 1
"""
"""Give up a set that is being built: from now on nobody can adopt it. KEYS: sets aside. ARGV: the set.

Returns 0 when it is not aside, because it has been adopted, as it may be without its builder knowing.
"""

ADOPT = """
local record, aside, name, fresh, prefix = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
local function answer(outcome, set)
  return {outcome, set, redis.call('HGET', record, 'f')}
end
local said = redis.call('HGET', record, 'f')
local owner = said and string.match(said, '^%d+:%d+:%x+:(.+)$')
if owner and ARGV[6] ~= '' and owner ~= ARGV[6] then return answer(3, '') end
local current = redis.call('HGET', record, name)
if current == fresh then return answer(1, '') end
if current and ARGV[4] == '1' then return answer(2, current) end
if fresh ~= '' then
  local score = redis.call('ZSCORE', aside, fresh)
  if not score or tonumber(score) < 0 then return answer(0, '') end
  redis.call('HSETNX', record, 'f', ARGV[5])
  redis.call('HSET', record, name, fresh)
  redis.call('ZREM', aside, fresh)
elseif current then
  redis.call('HDEL', record, name)
end
if not current then return answer(1, '') end
if prefix ~= '' then
  redis.call('UNLINK', prefix .. current)
else
  redis.call('ZADD', aside, 0, current)
end
return answer(1, '')
"""
"""Make a set the one that is read. KEYS: the record, sets aside. ARGV: the group's name in the record; the set, or ''
for none; what its key begins with, where it lies on this server, so that the old one goes in the same step (elsewhere
it is put aside, for the next sweep); 1 to leave a set that is there; the format, for a record that is new; whose the
record must be, or ''.

Returns {1, ''}, {2, the set that is there}, {3, ''} when the record is somebody else's, or {0, ''} when the new one was
swept; and the format that the record tells.
"""

LAYOUT = """
local known = redis.call('HGET', KEYS[1], 'c' .. ARGV[1])
if known then return tonumber(known) end
local number = tonumber(ARGV[2])
while redis.call('HSETNX', KEYS[1], 'n' .. string.format('%.0f', number), ARGV[1]) == 0 do
  number = (number + 1) % 4294967296
end
redis.call('HSET', KEYS[1], 'c' .. ARGV[1], string.format('%.0f', number))
return number
"""
"""The number of a layout, given to it if it has none. KEYS: the layouts. ARGV: its columns, packed; the number that
its columns ask for."""


_DIGESTS: Final = {
    source: hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest().encode()
    for source in (WRITE, COMMIT, LEASE, SWEEP, DISCARD, ADOPT, LAYOUT)
}
SOURCES: Final = tuple(packed([b"SCRIPT", b"LOAD", source.encode()]) for source in _DIGESTS)
"""Commands that make all of them known to a server."""


def script(route: int, source: str, keys: list[bytes], *arguments: bytes) -> Call:
    """A call of a script."""
    return Call(route, packed([b"EVALSHA", _DIGESTS[source], b"%d" % len(keys), *keys, *arguments]))
