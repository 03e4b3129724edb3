// Makes threads until it is refused. Code 5 says that it was.
public class Main {
    public static void main(String[] arguments) throws InterruptedException {
        try {
            for (int i = 0; i < 10000; i++) {
                Thread thread = new Thread(() -> { while (true) java.util.concurrent.locks.LockSupport.park(); });
                thread.start();
            }
        } catch (OutOfMemoryError error) {
            Runtime.getRuntime().halt(5);
        }
    }
}
