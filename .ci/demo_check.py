"""demo_check.py SUMMARY.json LEAST: fail unless the run's mean accuracy is at least LEAST."""

import json
import sys
from pathlib import Path

summary = json.loads(Path(sys.argv[1]).read_text())
least = float(sys.argv[2])
if not summary["accuracy_mean"] >= least:
    sys.exit(f"the demo ends at mean accuracy {summary['accuracy_mean']}, below {least}")
print(
    f"mean accuracy {summary['accuracy_mean']:.4f}, at least {least} wanted; {summary['wall_seconds']:.0f} s"
)
