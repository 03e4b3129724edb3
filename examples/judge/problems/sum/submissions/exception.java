// Calls itself until the stack is full: an exception, and code 1.
public class Main {
    static int depth(int n) {
        return depth(n + 1) + 1;
    }

    public static void main(String[] arguments) {
        System.out.println(depth(0));
    }
}
