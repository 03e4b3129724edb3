// Halves what is left.
import java.util.Scanner;

public class Main {
    public static void main(String[] arguments) {
        Scanner answers = new Scanner(System.in);
        int low = 1, high = 1000000;
        while (true) {
            int guess = (low + high) / 2;
            System.out.println(guess);
            String answer = answers.next();
            if (answer.equals("right")) return;
            if (answer.equals("higher")) low = guess + 1;
            else high = guess - 1;
        }
    }
}
