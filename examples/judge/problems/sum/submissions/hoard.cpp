// Appends to a vector and catches what it throws, which comes too late: memory is not refused, it runs out.
#include <iostream>
#include <new>
#include <vector>

int main() {
    std::vector<long> numbers;
    try {
        for (;;) numbers.push_back(numbers.size());
    } catch (const std::bad_alloc &) {
        std::cout << numbers.size() << '\n';
    }
}
