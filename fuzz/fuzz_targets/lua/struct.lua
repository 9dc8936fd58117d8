-- ARGV: a format; bytes; where to begin.
local format, bytes, start = ARGV[1], ARGV[2], tonumber(ARGV[3])
local function results(ok, ...) return ok, select('#', ...), {...} end

pcall(struct.unpack, format, bytes, start)
local ok, len, values = results(pcall(struct.unpack, format, bytes))
local is_sized, size = pcall(struct.size, format)
if is_sized and size <= #bytes then
    -- Letters that are no option have no size.
    assert(ok or values[1]:find('invalid format option'), 'refused, although there are enough bytes')
    assert(not ok or values[len] == size + 1, 'it ends elsewhere')
end
if not (ok and is_sized) then return end

-- Beyond 53 bits a double is not what was there.
for i = 1, len - 1 do
    local value = values[i]
    if type(value) == 'number' and not (value > -2^53 and value < 2^53) then return end
end
local packed = struct.pack(format, unpack(values, 1, len - 1))
assert(#packed == size, 'another size')
local again = {struct.unpack(format, packed)}
for i = 1, len do assert(values[i] == again[i], 'another value') end
