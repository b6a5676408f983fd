module innkeeper/bench/go

go 1.24
