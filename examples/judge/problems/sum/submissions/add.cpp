// Adds.
#include <iostream>
#include <numeric>
#include <vector>

int main() {
    int n;
    std::cin >> n;
    std::vector<long> numbers(n);
    for (long &number : numbers) std::cin >> number;
    std::cout << std::accumulate(numbers.begin(), numbers.end(), 0L) << '\n';
}
