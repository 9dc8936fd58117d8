-- ARGV: a text; 1 where arrays are marked; 1 where there is no bound on the depth.
-- What the text says as cjson writes it, and what cjson writes of that again; or why it was refused, and by whom.
if ARGV[2] == '1' then cjson.decode_array_with_array_mt(true) end
if ARGV[3] == '1' then
    cjson.decode_max_depth(2147483647)
    cjson.encode_max_depth(2147483647)
end
local ok, value = pcall(cjson.decode, ARGV[1])
if not ok then return {'decode', value} end
local ok, text = pcall(cjson.encode, value)
if not ok then return {'encode', text} end
return {'ok', text, cjson.encode(cjson.decode(text))}
