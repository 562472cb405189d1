package cel_test
import "testing"
func TestExplore(t *testing.T) {}
