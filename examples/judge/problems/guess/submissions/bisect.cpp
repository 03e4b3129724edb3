// Halves what is left.
#include <iostream>
#include <string>

int main() {
    long low = 1, high = 1000000;
    std::string answer;
    while (answer != "right") {
        long guess = (low + high) / 2;
        std::cout << guess << std::endl;
        if (!(std::cin >> answer)) return 1;
        (answer == "higher" ? low : high) = answer == "higher" ? guess + 1 : guess - 1;
    }
}
