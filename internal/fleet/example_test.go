package fleet_test

import (
	"fmt"

	"everynode/internal/fleet"
)

// The syntax of --simulate-fail and of the annotation simulate-fail.
func ExampleFailures() {
	for _, text := range []string{"none", "1%", "unready:5%,pull:1%", "crash:10%@example.com/agent:*", "often"} {
		var f fleet.Failures
		if err := f.UnmarshalText([]byte(text)); err != nil {
			fmt.Println("error:", err)
			continue
		}
		whole, err := f.MarshalText()
		fmt.Println(text, "means", string(whole), err)
	}
	// Output:
	// none means none <nil>
	// 1% means crash:1% <nil>
	// unready:5%,pull:1% means unready:5%,pull:1% <nil>
	// crash:10%@example.com/agent:* means crash:10%@example.com/agent:* <nil>
	// error: "often": "often" is not a mode of failure: give a share such as 1%, a mode (crash, unready, pull), both (pull:5%), or one for an image (crash@example.com/agent:2), several with commas, or none
}
