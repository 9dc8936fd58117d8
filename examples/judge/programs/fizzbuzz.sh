read -r limit
n=1
while [ "$n" -le "$limit" ]; do
    if [ $((n % 15)) -eq 0 ]; then echo FizzBuzz
    elif [ $((n % 3)) -eq 0 ]; then echo Fizz
    elif [ $((n % 5)) -eq 0 ]; then echo Buzz
    else echo "$n"
    fi
    n=$((n + 1))
done
