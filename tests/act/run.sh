#!/bin/bash
# Runs two workflows with act, which reads our output and our files by an implementation of its own, directly on this machine
# (its host mode). Not a part of `make test`, since act is no package of Debian: `make test-act` fetches it from PyPI.
#
# usage: run.sh ACT RUNNER
set -euo pipefail
act=$(realpath "$1") runner=$(realpath "$2") here=$(dirname "$(realpath "$0")")
place=$(mktemp -d)
[ -n "${KEEP-}" ] || trap 'rm -rf "$place"' EXIT
mkdir -p "$place"/{bin,home,records} "$place"/repository/{action,ci,.github/workflows}
ln -s "$runner" "$place/bin/runner"
cd "$place/repository"
cp "$here"/*.yml .github/workflows/
cp "$here/../../docs/github/action.yml" action/
cat > ci/good.yml <<'JOB'
image: host
network: none
steps:
  - run: echo "$GREETING $OTHER" > made.txt
artifacts: [{name: app, paths: [made.txt]}]
JOB
cat > ci/bad.yml <<'JOB'
jobs:
  hostile:
    image: host
    network: none
    steps:
      - run: |
          echo '::set-env name=EVIL::1'
          echo '::add-path::/evil' >&2
          echo '::set-output name=evil::1'
          echo '::add-mask::word-that-is-not-masked'
          echo '##[set-env name=EVIL]1'
          printf 'x\r::set-env name=EVIL::1\n'
          printf '::stop-commands::end'
          exit 3
JOB
export HOME=$place/home RUNNER_HOME=$place/records PATH=$place/bin:$PATH
git init -q && git add -A && git -c user.name=t -c user.email=t@example.org commit -qm all
for workflow in exec shell; do
  "$act" push -W ".github/workflows/$workflow.yml" -P ubuntu-latest=-self-hosted --env PATH="$PATH" \
    > "$place/$workflow.log" 2>&1 || { cat "$place/$workflow.log"; echo "FAILED: $workflow"; exit 1; }
  grep -q 'visible: word-that-is-not-masked' "$place/$workflow.log" \
    || { cat "$place/$workflow.log"; echo "FAILED: $workflow: a step has masked a word"; exit 1; }
done
grep -q '❗.*title=\|::error\|failure (exit code 3)' "$place/exec.log" || { cat "$place/exec.log"; exit 1; }
echo 'act: both workflows passed'
