# This file is Latin-1: café.
print("café")
