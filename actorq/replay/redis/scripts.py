"""Lua scripts of a shard's owner. KEYS: its owner key (compared with ARGV[1]), and the list of its chunks."""

# Atomic, and fenced: a former owner, whose thread may still be running, changes nothing any more. The last
# record shows whether an attempt whose reply was lost was executed, and whether Redis restarted with less
# than it had acknowledged.
COMMIT = """
local owner = redis.call('GET', KEYS[1])
if owner ~= ARGV[1] then return owner and 'taken' or 'lost' end
local last = redis.call('LINDEX', KEYS[2], -1) or ''
if last == ARGV[#ARGV] then return 'ok' end
if last ~= ARGV[2] then return 'lost' end
for _ = 1, tonumber(ARGV[3]) do redis.call('LPOP', KEYS[2]) end
for i = 4, #ARGV do redis.call('RPUSH', KEYS[2], ARGV[i]) end
return 'ok'
"""

# A full Redis accepts a script's SET if the script has deleted something before.
CLAIM = """
local owner = redis.call('GET', KEYS[1])
if ARGV[2] == 'again' and owner and owner ~= ARGV[1] then return 'taken' end
if ARGV[2] == 'afresh' and owner and string.sub(owner, -5) == ':kept' then return 'kept' end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1])
if ARGV[2] == 'afresh' then redis.call('UNLINK', KEYS[2]) end
return 'ok'
"""

# One command on a key of the shard, by its owner.
AS_OWNER = """
local owner = redis.call('GET', KEYS[1])
if owner ~= ARGV[1] then return owner and 'taken' or 'lost' end
redis.call(ARGV[2], KEYS[2], unpack(ARGV, 3))
return 'ok'
"""
