# Tries to send what it was given to somebody else.
import socket
import sys

with socket.create_connection(("127.0.0.1", 6379), timeout=1) as connection:
    connection.sendall(sys.stdin.read().encode())
