-- ARGV: bytes; 1 where sparse arrays become objects.
-- The values in the bytes as cmsgpack packs them, and what it packs of those again, '' where it does not take
-- them; then each value's JSON, and what cjson writes of that again, '' where it has none. Or why they were refused.
local function results(ok, ...) return ok, select('#', ...), {...} end

local ok, len, values = results(pcall(cmsgpack.unpack, ARGV[1]))
if not ok then return {'unpack', values[1]} end
if len == 0 then return {'ok', '', ''} end
if ARGV[2] == '1' then cjson.encode_sparse_array(true) end
local packed = cmsgpack.pack(unpack(values, 1, len))
local ok, again = pcall(function() return cmsgpack.pack(cmsgpack.unpack(packed)) end)
local reply = {'ok', packed, ok and again or ''}
for i = 1, len do
    local ok, text = pcall(cjson.encode, values[i])
    reply[#reply + 1] = ok and text or ''
    reply[#reply + 1] = ok and cjson.encode(cjson.decode(text)) or text
end
return reply
