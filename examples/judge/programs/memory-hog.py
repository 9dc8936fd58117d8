# Keeps everything it ever made.
kept = []
while True:
    kept.append(bytearray(1 << 20))
