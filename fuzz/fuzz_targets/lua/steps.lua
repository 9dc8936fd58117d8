-- ARGV: bytes; a limit; an offset.
-- The values in the bytes as cmsgpack packs them, taken together and one by one; nothing where one is refused.
local bytes, limit, offset = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local function packed(ok, ...)
    if not ok then return nil end
    return select('#', ...) == 0 and '' or cmsgpack.pack(...)
end
local function step(ok, next, ...)
    if not ok then return nil end
    return next, packed(true, ...)
end

local parts, at = {}, 0
while at ~= -1 do
    local next, part = step(pcall(cmsgpack.unpack_one, bytes, at))
    if not next then break end
    assert(next == -1 or next > at, 'no way ahead')
    parts[#parts + 1] = part
    at = next
end
local whole = packed(pcall(cmsgpack.unpack, bytes))
assert((at == -1) == (whole ~= nil), 'one way refuses what the other takes')

-- Any numbers: an answer or an error.
pcall(cmsgpack.unpack_limit, bytes, limit, offset)
pcall(cmsgpack.unpack_one, bytes, offset)
return {whole, table.concat(parts)}
