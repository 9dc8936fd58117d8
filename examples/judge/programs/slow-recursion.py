# Right in the end, but nobody waits that long.
def ways(n):
    return 1 if n < 2 else ways(n - 1) + ways(n - 2)


limit = int(input())
ways(60)
for n in range(1, limit + 1):
    print("FizzBuzz" if n % 15 == 0 else "Fizz" if n % 3 == 0 else "Buzz" if n % 5 == 0 else n)
