# The output is Latin-1, which is not UTF-8.
import sys

sys.stdout.buffer.write("à l'envers\n".encode("latin-1"))
