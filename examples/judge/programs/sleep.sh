# Uses no CPU time at all, only everybody's patience.
sleep 3600
