#include <stdio.h>
#include <stdlib.h>

int main(void) {
    int count, target;
    if (scanf("%d %d", &count, &target) != 2) return 1;
    int *numbers = malloc(count * sizeof *numbers);
    for (int i = 0; i < count; i++)
        if (scanf("%d", &numbers[i]) != 1) return 1;
    for (int j = 0; j < count; j++)
        for (int i = 0; i < j; i++)
            if ((long)numbers[i] + numbers[j] == target) {
                printf("%d %d\n", i, j);
                free(numbers);
                return 0;
            }
    return 1;
}
