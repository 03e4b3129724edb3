// The smallest prime for which the rest is prime, too.
#include <iostream>

static bool is_prime(long n) {
    for (long i = 2; i * i <= n; i++)
        if (n % i == 0) return false;
    return n >= 2;
}

int main() {
    long n, a = 2;
    std::cin >> n;
    while (!is_prime(a) || !is_prime(n - a)) a++;
    std::cout << a << ' ' << n - a << '\n';
}
