#compdef posegen
# Completion of posegen for zsh. Made by: posegen completion zsh
_posegen() {
  local answer line word meaning
  local -a told ended open
  answer=$("${words[1]}" completion --words "${(@Q)words[2,CURRENT]}" 2>/dev/null) || return 1
  if [[ $answer == :files* ]]; then
    [[ ${words[CURRENT]} == *=* ]] && compset -P '*='
    _files
    return
  fi
  for line in "${(@f)answer}"; do
    [[ -z $line ]] && continue
    word=${line%%$'\t'*} meaning=${line#*$'\t'}
    told=("${word//:/\\:}${meaning:+:$meaning}")
    case $word in *[=.] | *=\[*) open+=("$told[@]") ;; *) ended+=("$told[@]") ;; esac
  done
  local -i any=1
  (( $#ended )) && _describe -t words posegen ended -Q && any=0
  (( $#open )) && _describe -t keys posegen open -Q -S '' && any=0
  return any
}
if [[ $funcstack[1] == _posegen ]]; then
  _posegen "$@"
else
  compdef _posegen posegen
fi
