const limit = Number(require("fs").readFileSync(0, "utf8"));
for (let n = 1; n <= limit; n++) {
  console.log(n % 15 === 0 ? "FizzBuzz" : n % 3 === 0 ? "Fizz" : n % 5 === 0 ? "Buzz" : n);
}
