package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func checkOutput(output string) error {
	if output != "" && output != "json" {
		return fmt.Errorf("-o %s: want json, or nothing for people", output)
	}
	return nil
}

func printReport(out io.Writer, output string, report any, print func(io.Writer) error) error {
	if output == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(report)
	}
	return print(out)
}

func contextOf(c *cobra.Command) context.Context {
	if ctx := c.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}
