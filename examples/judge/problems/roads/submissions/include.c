/* Tries to have the compiler read the password hashes of the host, and print them as an error. */
#include "/etc/shadow"

int main(void) {
    return 0;
}
