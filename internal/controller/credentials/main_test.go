package credentials_test

import (
	"testing"

	"github.com/tenantry/tenantry/internal/controller/operatortest"
)

func TestMain(m *testing.M) { operatortest.Main(m) }
