# Completion of posegen for fish 3 or later. Made by: posegen completion fish
function __posegen_words
    set -l words (commandline -opc) (commandline -ct)
    set -l answer ($words[1] completion --words -- $words[2..-1] 2>/dev/null)
    if test "$answer[1]" = ":files"
        set -l current $words[-1]
        set -l key (string match -r '^[^=]*=' -- $current)
        for file in (__fish_complete_path (string replace -r '^[^=]*=' '' -- $current))
            echo "$key$file"
        end
        return
    end
    printf '%s\n' $answer
end
complete -c posegen -f -a '(__posegen_words)'
