/* Answers guesses with "higher", "lower" or "right". Code 0: guessed; 1: too many guesses, or something that is none; 2:
   the other side has hung up. What it reads may be anything, and may never end. */
#include <ctype.h>
#include <signal.h>
#include <stdio.h>

enum { SOLVED, WRONG, HUNG_UP, BROKEN };

static int end(int code, const char *why) {
    fprintf(stderr, "%s\n", why);
    return code;
}

int main(int count, char **paths) {
    FILE *input = count == 2 ? fopen(paths[1], "r") : NULL;
    long secret;
    if (!input || fscanf(input, "%ld", &secret) != 1) return BROKEN;
    signal(SIGPIPE, SIG_IGN);
    for (int guesses = 0; guesses < 20; guesses++) {
        long guess = 0;
        int digits = 0, c;
        for (; (c = getchar()) != '\n'; digits++) {
            if (c == EOF) return end(HUNG_UP, "hung up before the number was guessed");
            if (!isdigit(c) || digits == 7) return end(WRONG, "that is no guess");
            guess = guess * 10 + (c - '0');
        }
        if (digits == 0) return end(WRONG, "that is no guess");
        puts(guess < secret ? "higher" : guess > secret ? "lower" : "right");
        if (fflush(stdout) != 0) return end(HUNG_UP, "hung up before it was answered");
        if (guess == secret) return SOLVED;
    }
    return end(WRONG, "too many guesses");
}
