# One job of the crash tests: notes its run in file $1 (one short line, appended in one write), does a
# little work, and fails when its data says so. The data is a JSON object on standard input.
data=$(cat)
number=${data#*\"n\":}
number=${number%%[!0-9]*}
echo "$number" >> "$1"
sleep 0.02
case $data in
    *'"fail":true'*) echo "failed as told" >&2; exit 1 ;;
esac
echo "$number"
