/* Ends with the code by which shells tell of SIGKILL. */
int main(void) {
    return 137;
}
