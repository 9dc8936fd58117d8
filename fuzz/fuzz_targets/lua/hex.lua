-- ARGV: a number, digits.
local ok, text = pcall(bit.tohex, tonumber(ARGV[1]), tonumber(ARGV[2]))
assert(ok and #text <= 8 and not text:find('%X'), text)
return text
