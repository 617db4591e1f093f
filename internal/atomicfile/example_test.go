package atomicfile_test

import (
	"fmt"
	"os"
	"path/filepath"

	"everynode/internal/atomicfile"
)

// A file that is written piece by piece gets its name when it is whole.
func ExampleCreate() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "report")
	f, err := atomicfile.Create(name)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Discard() // does nothing after Commit
	for i := range 3 {
		fmt.Fprintln(f, "line", i)
	}
	_, err = os.Stat(name)
	fmt.Println("there before Commit:", err == nil)
	if err := f.Commit(); err != nil {
		fmt.Println(err)
		return
	}
	_, err = os.Stat(name)
	fmt.Println("there after it:", err == nil)
	// Output:
	// there before Commit: false
	// there after it: true
}
