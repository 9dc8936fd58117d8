/* Finds the right pair and prints it in the wrong order. */
#include <stdio.h>

int main(void) {
    int count, target, numbers[1000];
    scanf("%d %d", &count, &target);
    for (int i = 0; i < count && i < 1000; i++) scanf("%d", &numbers[i]);
    for (int j = 0; j < count; j++)
        for (int i = 0; i < j; i++)
            if (numbers[i] + numbers[j] == target) printf("%d %d\n", j, i);
    return 0;
}
