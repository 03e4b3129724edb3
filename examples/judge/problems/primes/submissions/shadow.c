/* Tries to print the password hashes of the host. Code 4 says that it was not given them. */
#include <stdio.h>

int main(void) {
    FILE *file = fopen("/etc/shadow", "r");
    if (!file) {
        perror("/etc/shadow");
        return 4;
    }
    for (int c; (c = fgetc(file)) != EOF;) putchar(c);
    return 0;
}
