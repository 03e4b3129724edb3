// Throws at an answer it does not like.
#include <iostream>
#include <stdexcept>
#include <string>

int main() {
    std::string answer;
    std::cout << 500000 << std::endl;
    std::cin >> answer;
    if (answer != "right") throw std::runtime_error(answer);
}
