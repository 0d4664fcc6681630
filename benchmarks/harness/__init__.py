"""What benchmarks share: clocks, data, counts of operations, processes, designs and rivals."""
