# Looks for any place outside its box that it may write to.
for place in /tmp /var/tmp /dev/shm /etc /usr/local/bin /root /; do
    if echo "was here" > "$place/escaped"; then
        echo "wrote to $place"
        exit 0
    fi
done
exit 1
