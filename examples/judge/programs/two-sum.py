# Remember every number's place; one pass over the list.
count, target = map(int, input().split())
numbers = list(map(int, input().split()))
seen = {}
for index, number in enumerate(numbers):
    if target - number in seen:
        print(seen[target - number], index)
        break
    seen[number] = index
