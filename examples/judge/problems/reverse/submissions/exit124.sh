# Ends with the code by which timeout(1) tells that the time was over: for a command of its own.
timeout 0.1 sleep 3600
