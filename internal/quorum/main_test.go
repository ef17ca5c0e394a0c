package quorum

import (
	"testing"

	"github.com/multihost/multihost/internal/redistest"
)

func TestMain(m *testing.M) { redistest.Main(m) }
