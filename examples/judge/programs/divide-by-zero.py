count = int(input().split()[0])
print(count // (count - count))
