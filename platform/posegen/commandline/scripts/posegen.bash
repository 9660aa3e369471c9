# Completion of posegen for bash 4 or later. Made by: posegen completion bash
_posegen() {
  local line=${COMP_LINE:0:COMP_POINT} answer word found=() IFS
  local -a words
  # Whole words: bash's own are cut at `=` and `:`, which overrides are full of.
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  local current=${words[-1]}
  answer=$("$1" completion --words "${words[@]:1}" 2>/dev/null) || return 0
  local kept=""
  [[ $current == *=* && $COMP_WORDBREAKS == *=* ]] && kept=${current%%=*}=
  if [[ $answer == :files* ]]; then
    IFS=$'\n'
    local value=$current
    [[ $current == *=* ]] && value=${current#*=}
    value=${value/#\~\//$HOME/}
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$value"))
    [[ $current == *=* && -z $kept ]] && COMPREPLY=("${COMPREPLY[@]/#/${current%%=*}=}")
    return 0
  fi
  while IFS=$'\t' read -r word _; do
    [[ -n $word ]] && found+=("${word#"$kept"}")
  done <<<"$answer"
  COMPREPLY=("${found[@]}")
  # A list, a part and a key are gone on with: no blank behind them.
  for word in "${found[@]}"; do
    case $current$word in *[=.] | *=\[*) compopt -o nospace 2>/dev/null ;; esac
  done
  return 0
}
complete -F _posegen posegen
